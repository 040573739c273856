// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {IBlockhostSubscriptions} from "../src/interfaces/IBlockhostSubscriptions.sol";
import {SubscriptionsFixture} from "./SubscriptionsFixture.sol";
import {CallingToken, FalseToken, FeeToken, SilentToken, TestToken} from "./Tokens.sol";

/// @dev What buyers do.
contract BlockhostSubscriptionsTest is SubscriptionsFixture {
    // ---- buySubscription

    function test_buySubscription_sells() external {
        uint256 before = _usdc.balanceOf(_buyer);
        vm.expectEmit(address(_subs));
        emit IBlockhostSubscriptions.SubscriptionCreated(
            1, 1, _buyer, START + 30 days, 300_000000, address(_usdc), BLOB
        );
        vm.assertEq(_buy(30), 1, "first id");
        vm.assertEq(_buy(1), 2, "second id");
        (uint256 planId, address subscriber, uint256 expiresAt, bool isActive, bool cancelled) =
            _subs.getSubscription(1);
        vm.assertEq(planId, 1, "planId");
        vm.assertEq(subscriber, _buyer, "subscriber");
        vm.assertEq(expiresAt, START + 30 days, "expiresAt");
        vm.assertTrue(isActive, "isActive");
        vm.assertFalse(cancelled, "cancelled");
        vm.assertEq(before - _usdc.balanceOf(_buyer), 310_000000, "paid");
        vm.assertEq(_usdc.balanceOf(address(_subs)), 310_000000, "held");
        vm.assertEq(_subs.getTotalSubscriptionCount(), 2, "count");
    }

    function test_fuzz_buySubscription(uint256 price, uint256 days_, bytes memory blob) external {
        price = _bound(price, 1, 1e9);
        days_ = _bound(days_, 1, 36_500);
        uint256 planId = _createPlan("Fuzz", price);
        vm.expectEmit(address(_subs));
        emit IBlockhostSubscriptions.SubscriptionCreated(
            1, planId, _buyer, START + days_ * 1 days, price * days_ * 10_000, address(_usdc), blob
        );
        vm.prank(_buyer);
        _subs.buySubscription(planId, days_, 1, blob);
        vm.assertEq(_usdc.balanceOf(address(_subs)), price * days_ * 10_000, "held");
    }

    function test_buySubscription_refusesInOrder() external {
        vm.startPrank(_host);
        _subs.setPurchasesPaused(true);
        _subs.updatePlan(1, "Basic", PRICE, false);
        _subs.updatePaymentMethod(1, false);
        vm.stopPrank();
        bytes memory tooLong = new bytes(4097);
        _refuses(2, 0, 2, tooLong, abi.encodeWithSelector(IBlockhostSubscriptions.PurchasesPaused.selector));
        vm.prank(_host);
        _subs.setPurchasesPaused(false);
        _refuses(0, 0, 2, tooLong, abi.encodeWithSelector(IBlockhostSubscriptions.PlanNotFound.selector, 0));
        _refuses(2, 0, 2, tooLong, abi.encodeWithSelector(IBlockhostSubscriptions.PlanNotFound.selector, 2));
        _refuses(1, 0, 2, tooLong, abi.encodeWithSelector(IBlockhostSubscriptions.PlanNotActive.selector, 1));
        _updatePlan(1, PRICE, true);
        _refuses(1, 0, 2, tooLong, abi.encodeWithSelector(IBlockhostSubscriptions.DaysMustBePositive.selector));
        _refuses(
            1, 36_501, 2, tooLong, abi.encodeWithSelector(IBlockhostSubscriptions.TooManyDays.selector, 36_501, 36_500)
        );
        _refuses(
            1, 1, 2, tooLong, abi.encodeWithSelector(IBlockhostSubscriptions.UserEncryptedTooLong.selector, 4097, 4096)
        );
        _refuses(1, 1, 0, BLOB, abi.encodeWithSelector(IBlockhostSubscriptions.PaymentMethodNotFound.selector, 0));
        _refuses(1, 1, 2, BLOB, abi.encodeWithSelector(IBlockhostSubscriptions.PaymentMethodNotFound.selector, 2));
        _refuses(1, 1, 1, BLOB, abi.encodeWithSelector(IBlockhostSubscriptions.PaymentMethodNotActive.selector, 1));
        vm.prank(_host);
        _subs.updatePaymentMethod(1, true);
        vm.prank(_stranger);
        vm.expectRevert(
            abi.encodeWithSignature("ERC20InsufficientAllowance(address,uint256,uint256)", address(_subs), 0, 10_000000)
        );
        _subs.buySubscription(1, 1, 1, BLOB);
        vm.prank(_buyer);
        vm.assertEq(_subs.buySubscription(1, 1, 1, new bytes(4096)), 1, "sold");
    }

    function test_buySubscription_isNeverFree() external {
        _useStablecoin(new TestToken("Whole dollars", "USD", 0));
        uint256 planId = _createPlan("Cent", 1);
        vm.assertEq(_subs.calculatePayment(planId, 1, 1), 1, "a cent is rounded up to a dollar");
        vm.assertEq(_subs.calculatePayment(planId, 100, 1), 1, "as are a hundred");
        vm.assertEq(_subs.calculatePayment(planId, 101, 1), 2, "and one more");
    }

    function test_buySubscription_takesTokensOfAllHabits() external {
        _useStablecoin(new SilentToken());
        vm.assertEq(_buy(1), 1, "a token that answers nothing");
        FalseToken liar = new FalseToken();
        _useStablecoin(liar);
        vm.expectRevert(abi.encodeWithSignature("SafeERC20FailedOperation(address)", address(liar)));
        _buy(1);
    }

    function test_buySubscription_revertsWithPaymentShort() external {
        FeeToken fee = new FeeToken();
        _useStablecoin(fee);
        fee.mint(address(_subs), 5);
        vm.expectRevert(
            abi.encodeWithSelector(IBlockhostSubscriptions.PaymentShort.selector, address(fee), 10_000005, 9_900005)
        );
        _buy(1);
    }

    function test_buySubscription_cantBeReentered() external {
        CallingToken token = new CallingToken();
        _useStablecoin(token);
        bytes[5] memory calls = [
            abi.encodeCall(IBlockhostSubscriptions.buySubscription, (1, 1, 1, BLOB)),
            abi.encodeCall(IBlockhostSubscriptions.buySubscriptionWithMax, (1, 1, 1, 1e18, BLOB)),
            abi.encodeCall(IBlockhostSubscriptions.extendSubscription, (1, 1, 1)),
            abi.encodeCall(IBlockhostSubscriptions.extendSubscriptionWithMax, (1, 1, 1, 1e18)),
            abi.encodeCall(IBlockhostSubscriptions.withdrawFunds, (address(_usdc), _stranger))
        ];
        _useStablecoin(_usdc);
        _buy(1);
        _useStablecoin(token);
        vm.startPrank(_host);
        _subs.transferOwnership(address(token));
        vm.stopPrank();
        vm.prank(address(token));
        _subs.acceptOwnership();
        for (uint256 i = 0; i < calls.length; i++) {
            token.setCall(address(_subs), calls[i]);
            vm.expectRevert(abi.encodeWithSignature("ReentrancyGuardReentrantCall()"));
            _buy(1);
        }
    }

    // ---- buySubscriptionWithMax

    function test_buySubscriptionWithMax_paysUpToIt() external {
        vm.expectEmit(address(_subs));
        emit IBlockhostSubscriptions.SubscriptionCreated(1, 1, _buyer, START + 1 days, 10_000000, address(_usdc), BLOB);
        vm.prank(_buyer);
        vm.assertEq(_subs.buySubscriptionWithMax(1, 1, 1, 10_000000, BLOB), 1, "id");
    }

    function test_buySubscriptionWithMax_revertsAbove() external {
        _updatePlan(1, PRICE + 1, true);
        vm.prank(_buyer);
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.PaymentAboveMax.selector, 10_010000, 10_000000));
        _subs.buySubscriptionWithMax(1, 1, 1, 10_000000, BLOB);
    }

    function test_fuzz_buySubscriptionWithMax(uint256 price, uint256 days_, uint256 max) external {
        uint256 planId = _createPlan("Fuzz", _bound(price, 1, 1e9));
        days_ = _bound(days_, 1, 36_500);
        uint256 amount = _subs.calculatePayment(planId, days_, 1);
        max = _bound(max, amount / 2, amount * 2);
        vm.prank(_buyer);
        if (max < amount) {
            vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.PaymentAboveMax.selector, amount, max));
        }
        _subs.buySubscriptionWithMax(planId, days_, 1, max, BLOB);
        vm.assertEq(_usdc.balanceOf(address(_subs)), max < amount ? 0 : amount, "held");
    }

    // ---- extendSubscription

    function test_extendSubscription_addsToTheEnd() external {
        _buy(10);
        vm.warp(START + 5 days);
        _enrich(_usdc, _stranger);
        vm.expectEmit(address(_subs));
        emit IBlockhostSubscriptions.SubscriptionExtended(1, 1, _stranger, START + 40 days, 300_000000, address(_usdc));
        vm.prank(_stranger);
        _subs.extendSubscription(1, 30, 1);
        _assertExpiry(1, START + 40 days, "from its end");
        vm.warp(START + 50 days);
        _extend(1, 1);
        _assertExpiry(1, START + 51 days, "from now, once expired");
        (, address subscriber,,,) = _subs.getSubscription(1);
        vm.assertEq(subscriber, _buyer, "whose it was");
    }

    function test_fuzz_extendSubscription(uint256 bought, uint256 wait, uint256 added) external {
        bought = _bound(bought, 1, 36_500);
        wait = _bound(wait, 0, 80_000 days);
        added = _bound(added, 1, 36_500);
        _buy(bought);
        uint256 end = START + bought * 1 days;
        vm.warp(START + wait);
        uint256 expected = (end > block.timestamp ? end : block.timestamp) + added * 1 days;
        uint256 latest = block.timestamp + 36_500 days;
        if (expected > latest) {
            vm.prank(_buyer);
            vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.ExpiryTooFar.selector, expected, latest));
            _subs.extendSubscription(1, added, 1);
        } else {
            _extend(1, added);
            _assertExpiry(1, expected, "expiresAt");
        }
    }

    function test_extendSubscription_refusesInOrder() external {
        _buy(36_499);
        _buy(1);
        _cancel(2);
        vm.prank(_host);
        _subs.setPlanRenewable(1, false);
        _refusesExtension(0, 0, 2, abi.encodeWithSelector(IBlockhostSubscriptions.SubscriptionNotFound.selector, 0));
        _refusesExtension(3, 0, 2, abi.encodeWithSelector(IBlockhostSubscriptions.SubscriptionNotFound.selector, 3));
        _refusesExtension(
            2, 0, 2, abi.encodeWithSelector(IBlockhostSubscriptions.SubscriptionAlreadyCancelled.selector, 2)
        );
        _refusesExtension(1, 0, 2, abi.encodeWithSelector(IBlockhostSubscriptions.PlanNotRenewable.selector, 1));
        vm.prank(_host);
        _subs.setPlanRenewable(1, true);
        _refusesExtension(1, 0, 2, abi.encodeWithSelector(IBlockhostSubscriptions.DaysMustBePositive.selector));
        _refusesExtension(
            1, 36_501, 2, abi.encodeWithSelector(IBlockhostSubscriptions.TooManyDays.selector, 36_501, 36_500)
        );
        _refusesExtension(
            1,
            2,
            2,
            abi.encodeWithSelector(
                IBlockhostSubscriptions.ExpiryTooFar.selector, START + 36_501 days, START + 36_500 days
            )
        );
        _refusesExtension(1, 1, 2, abi.encodeWithSelector(IBlockhostSubscriptions.PaymentMethodNotFound.selector, 2));
        vm.prank(_host);
        _subs.updatePaymentMethod(1, false);
        _refusesExtension(1, 1, 1, abi.encodeWithSelector(IBlockhostSubscriptions.PaymentMethodNotActive.selector, 1));
        vm.prank(_host);
        _subs.updatePaymentMethod(1, true);
        _extend(1, 1);
        _assertExpiry(1, START + 36_500 days, "the longest");
    }

    function test_extendSubscription_ofAPlanClosedToNewBuyers() external {
        _buy(1);
        _updatePlan(1, PRICE * 2, false);
        vm.prank(_host);
        _subs.setPurchasesPaused(true);
        _extend(1, 1);
        vm.assertEq(_usdc.balanceOf(address(_subs)), 30_000000, "at its present price");
    }

    function test_extendSubscriptionWithMax_paysUpToIt() external {
        _buy(1);
        vm.prank(_buyer);
        _subs.extendSubscriptionWithMax(1, 1, 1, 10_000000);
        _assertExpiry(1, START + 2 days, "extended");
    }

    function test_extendSubscriptionWithMax_revertsAbove() external {
        _buy(1);
        vm.prank(_buyer);
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.PaymentAboveMax.selector, 10_000000, 9_999999));
        _subs.extendSubscriptionWithMax(1, 1, 1, 9_999999);
    }

    function test_fuzz_extendSubscriptionWithMax(uint256 days_, uint256 max) external {
        _buy(1);
        days_ = _bound(days_, 1, 36_499);
        uint256 amount = days_ * 10_000000;
        max = _bound(max, amount / 2, amount * 2);
        vm.prank(_buyer);
        if (max < amount) {
            vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.PaymentAboveMax.selector, amount, max));
        }
        _subs.extendSubscriptionWithMax(1, days_, 1, max);
        _assertExpiry(1, START + (max < amount ? 1 : days_ + 1) * 1 days, "expiresAt");
    }

    // ---- views

    function test_daysRemaining_countsWholeDays() external {
        _buy(10);
        vm.assertEq(_subs.daysRemaining(1), 10, "all");
        vm.warp(START + 1);
        vm.assertEq(_subs.daysRemaining(1), 9, "rounded down");
        vm.warp(START + 10 days);
        vm.assertEq(_subs.daysRemaining(1), 0, "expired");
        _extend(1, 5);
        _cancel(1);
        vm.assertEq(_subs.daysRemaining(1), 0, "cancelled");
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.SubscriptionNotFound.selector, 2));
        _subs.daysRemaining(2);
    }

    function test_isSubscriptionActive_untilTheEnd() external {
        _buy(1);
        vm.assertTrue(_subs.isSubscriptionActive(1), "bought");
        vm.warp(START + 1 days - 1);
        vm.assertTrue(_subs.isSubscriptionActive(1), "its last second");
        vm.warp(START + 1 days);
        vm.assertFalse(_subs.isSubscriptionActive(1), "expired");
        (,,, bool isActive,) = _subs.getSubscription(1);
        vm.assertFalse(isActive, "as getSubscription says");
        vm.assertFalse(_subs.isSubscriptionActive(0), "0 is no id");
        vm.assertFalse(_subs.isSubscriptionActive(2), "unknown");
    }

    function test_getSubscription_revertsForUnknown() external {
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.SubscriptionNotFound.selector, 1));
        _subs.getSubscription(1);
    }

    function test_getSubscriptionsBySubscriber_listsThem() external {
        _enrich(_usdc, _stranger);
        for (uint256 i = 0; i < 9; i++) {
            vm.prank(i % 3 == 0 ? _stranger : _buyer);
            _subs.buySubscription(1, 1, 1, BLOB);
        }
        _assertIds(_subs.getSubscriptionsBySubscriber(_stranger), _ids(1, 4, 7), "the stranger's");
        vm.assertEq(_subs.getSubscriptionsBySubscriber(_buyer).length, 6, "the buyer's");
        vm.assertEq(_subs.getSubscriptionsBySubscriber(_buyer)[5], 9, "the last");
        vm.assertEq(_subs.getSubscriptionsBySubscriber(_host).length, 0, "none");
    }

    function test_expiryQueries_pageOverIds() external {
        for (uint256 days_ = 1; days_ <= 6; days_++) {
            _buy(days_);
        }
        _cancel(2);
        vm.warp(START + 3 days);
        // 1 and 3 are expired, 2 is cancelled, 4 to 6 have 1 to 3 days left.
        _assertIds(_subs.getExpiredSubscriptions(0, 100), _ids(1, 3), "all expired");
        _assertIds(_subs.getExpiredSubscriptions(1, 2), _ids(3), "of 2 and 3");
        _assertIds(_subs.getExpiredSubscriptions(3, type(uint256).max), new uint256[](0), "of the rest");
        _assertIds(_subs.getExpiredSubscriptions(6, 1), new uint256[](0), "past the end");
        _assertIds(_subs.getExpiredSubscriptions(type(uint256).max, 1), new uint256[](0), "far past the end");
        _assertIds(_subs.getExpiredSubscriptions(0, 0), new uint256[](0), "none looked at");
        _assertIds(_subs.getSubscriptionsExpiringSoon(2 days, 0, 100), _ids(4, 5), "within two days");
        _assertIds(_subs.getSubscriptionsExpiringSoon(2 days - 1, 0, 100), _ids(4), "within a second less");
        _assertIds(_subs.getSubscriptionsExpiringSoon(0, 0, 100), new uint256[](0), "now");
        _assertIds(_subs.getSubscriptionsExpiringSoon(type(uint256).max, 0, 100), _ids(4, 5, 6), "ever");
        _assertIds(_subs.getSubscriptionsExpiringSoon(2 days, 4, 1), _ids(5), "of 5");
    }

    function test_expiryQueries_costNoMoreThanTheirLimit() external {
        for (uint256 i = 0; i < 400; i++) {
            _buy(1);
        }
        vm.warp(START + 2 days);
        uint256 before = gasleft();
        vm.assertEq(_subs.getExpiredSubscriptions(300, 10).length, 10, "ten");
        vm.assertLe(before - gasleft(), 60_000, "gas");
    }

    function test_fuzz_expiryQueries(uint256[8] memory lengths, uint256 now_, uint256 within, uint256 limit) external {
        for (uint256 i = 0; i < 8; i++) {
            lengths[i] = _bound(lengths[i], 1, 20);
            _buy(lengths[i]);
        }
        now_ = START + _bound(now_, 0, 25 days);
        within = _bound(within, 0, 25 days);
        limit = _bound(limit, 1, 9);
        vm.warp(now_);
        uint256 expired = 0;
        uint256 soon = 0;
        for (uint256 offset = 0; offset < 8; offset += limit) {
            expired += _subs.getExpiredSubscriptions(offset, limit).length;
            soon += _subs.getSubscriptionsExpiringSoon(within, offset, limit).length;
        }
        for (uint256 i = 0; i < 8; i++) {
            uint256 end = START + lengths[i] * 1 days;
            if (end <= now_) expired--;
            else if (end <= now_ + within) soon--;
        }
        vm.assertEq(expired, 0, "every expired one, once");
        vm.assertEq(soon, 0, "every one that expires soon, once");
    }

    function test_getSubscriptionRecords_packs() external {
        vm.roll(77);
        _buy(1);
        _createPlan("Other", 1);
        vm.roll(2 ** 32 + 78);
        _buy(2, 2);
        _updatePlan(1, PRICE, false);
        _cancel(1);
        uint256[] memory records = _subs.getSubscriptionRecords(_ids(2, 1, 3));
        uint256 first = uint256(uint160(_buyer)) | START << 160 | 1 << 200 | 77 << 216 | 1 << 248 | 1 << 250;
        uint256 second = uint256(uint160(_buyer)) | (START + 2 days) << 160 | 2 << 200 | 78 << 216 | 3 << 249;
        vm.assertEq(records[0], second, "second");
        vm.assertEq(records[1], first, "first");
        vm.assertEq(records[2], 0, "unknown");
        vm.prank(_host);
        _subs.setPlanRenewable(1, false);
        vm.assertEq(_subs.getSubscriptionRecords(_ids(1))[0], first ^ 1 << 250, "not renewable");
    }

    function _refuses(uint256 planId, uint256 days_, uint256 methodId, bytes memory blob, bytes memory expected)
        private
    {
        vm.prank(_buyer);
        vm.expectRevert(expected);
        _subs.buySubscription(planId, days_, methodId, blob);
    }

    function _refusesExtension(uint256 id, uint256 days_, uint256 methodId, bytes memory expected) private {
        vm.prank(_buyer);
        vm.expectRevert(expected);
        _subs.extendSubscription(id, days_, methodId);
    }
}
