// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {IBlockhostSubscriptions} from "../src/interfaces/IBlockhostSubscriptions.sol";
import {SubscriptionsFixture} from "./SubscriptionsFixture.sol";
import {TestToken} from "./Tokens.sol";

/// @dev What the owner does, except payment methods with a pair.
contract BlockhostSubscriptionsAdminTest is SubscriptionsFixture {
    function test_owner_isNeededForAllOfIt() external {
        bytes[12] memory calls = [
            abi.encodeCall(IBlockhostSubscriptions.setPrimaryStablecoin, (address(_usdc))),
            abi.encodeCall(IBlockhostSubscriptions.createPlan, ("", 1)),
            abi.encodeCall(IBlockhostSubscriptions.updatePlan, (1, "", 1, true)),
            abi.encodeCall(IBlockhostSubscriptions.setPlanRenewable, (1, true)),
            abi.encodeCall(IBlockhostSubscriptions.setPurchasesPaused, (true)),
            abi.encodeCall(IBlockhostSubscriptions.cancelSubscription, (1)),
            abi.encodeCall(IBlockhostSubscriptions.addPaymentMethod, (address(_usdc), address(_usdc), address(_usdc))),
            abi.encodeCall(IBlockhostSubscriptions.updatePaymentMethod, (1, true)),
            abi.encodeCall(IBlockhostSubscriptions.withdrawFunds, (address(_usdc), _stranger)),
            abi.encodeCall(IBlockhostSubscriptions.setSlippageBps, (1)),
            abi.encodeCall(IBlockhostSubscriptions.setMinLiquidity, (1)),
            abi.encodeWithSignature("renounceOwnership()")
        ];
        for (uint256 i = 0; i < calls.length; i++) {
            vm.prank(_stranger);
            (bool ok, bytes memory answer) = address(_subs).call(calls[i]);
            _assertRevert(ok, answer, _unauthorized(_stranger), "the owner only");
        }
    }

    function test_transferOwnership_needsAcceptance() external {
        vm.prank(_host);
        _subs.transferOwnership(_stranger);
        vm.assertEq(_subs.owner(), _host, "not yet");
        vm.prank(_stranger);
        _subs.acceptOwnership();
        vm.assertEq(_subs.owner(), _stranger, "now");
    }

    function test_renounceOwnership_reverts() external {
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.OwnerRequired.selector));
        _subs.renounceOwnership();
    }

    // ---- plans

    function test_createPlan_creates() external {
        vm.expectEmit(address(_subs));
        emit IBlockhostSubscriptions.PlanCreated(2, "Large", 5000);
        vm.assertEq(_createPlan("Large", 5000), 2, "id");
        _assertPlan(2, "Large", 5000, true);
        vm.assertTrue(_subs.isPlanRenewable(2), "renewable");
        vm.assertEq(_subs.getTotalPlanCount(), 2, "count");
    }

    function test_fuzz_createPlan(string memory name, uint96 price) external {
        vm.assume(price != 0);
        _assertPlan(_createPlan(name, price), name, price, true);
    }

    function test_createPlan_reverts() external {
        vm.startPrank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.PlanPriceMustBePositive.selector));
        _subs.createPlan("", 0);
        vm.expectRevert(
            abi.encodeWithSelector(IBlockhostSubscriptions.PlanPriceTooHigh.selector, 2 ** 96, type(uint96).max)
        );
        _subs.createPlan("", 2 ** 96);
    }

    function test_createPlan_revertsWithTooManyPlans() external {
        // nextPlanId, after the owner's two words.
        vm.assertEq(uint256(vm.load(address(_subs), bytes32(uint256(2)))), 2, "the slot");
        vm.store(address(_subs), bytes32(uint256(2)), bytes32(uint256(65_535)));
        vm.assertEq(_createPlan("last", 1), 65_535, "last");
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.TooManyPlans.selector, 65_535));
        _subs.createPlan("one more", 1);
        _buy(65_535, 1);
        (uint256 planId,,,,) = _subs.getSubscription(1);
        vm.assertEq(planId, 65_535, "not cut");
    }

    function test_updatePlan_replaces() external {
        vm.expectEmit(address(_subs));
        emit IBlockhostSubscriptions.PlanUpdated(1, "Small", 7, false);
        vm.prank(_host);
        _subs.updatePlan(1, "Small", 7, false);
        _assertPlan(1, "Small", 7, false);
        vm.assertTrue(_subs.isPlanRenewable(1), "still renewable");
    }

    function test_fuzz_updatePlan(string memory name, uint96 price, bool active) external {
        vm.assume(price != 0);
        vm.prank(_host);
        _subs.updatePlan(1, name, price, active);
        _assertPlan(1, name, price, active);
    }

    function test_updatePlan_reverts() external {
        vm.startPrank(_host);
        for (uint256 planId = 0; planId <= 2; planId += 2) {
            vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.PlanNotFound.selector, planId));
            _subs.updatePlan(planId, "", 1, true);
        }
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.PlanPriceMustBePositive.selector));
        _subs.updatePlan(1, "", 0, true);
    }

    function test_setPlanRenewable_sets() external {
        vm.expectEmit(address(_subs));
        emit IBlockhostSubscriptions.PlanRenewableUpdated(1, false);
        vm.prank(_host);
        _subs.setPlanRenewable(1, false);
        vm.assertFalse(_subs.isPlanRenewable(1), "closed");
        vm.assertEq(_buy(1), 1, "new buyers may still choose it");
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.PlanNotFound.selector, 2));
        _subs.setPlanRenewable(2, true);
    }

    function test_fuzz_setPlanRenewable(bool first, bool second) external {
        vm.startPrank(_host);
        _subs.setPlanRenewable(1, first);
        _subs.setPlanRenewable(1, second);
        vm.assertTrue(_subs.isPlanRenewable(1) == second, "the last one");
        _assertPlan(1, "Basic", PRICE, true);
    }

    function test_getPlan_revertsForUnknown() external {
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.PlanNotFound.selector, 2));
        _subs.getPlan(2);
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.PlanNotFound.selector, 0));
        _subs.isPlanRenewable(0);
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.PlanNotFound.selector, 0));
        _subs.calculatePayment(0, 1, 1);
    }

    function test_setPurchasesPaused_sets() external {
        vm.expectEmit(address(_subs));
        emit IBlockhostSubscriptions.PurchasesPausedUpdated(true);
        vm.prank(_host);
        _subs.setPurchasesPaused(true);
        vm.assertTrue(_subs.purchasesPaused(), "paused");
    }

    function test_fuzz_setPurchasesPaused(bool paused, address newOwner) external {
        // It shares a word with the pending owner.
        vm.startPrank(_host);
        _subs.setPurchasesPaused(paused);
        _subs.transferOwnership(newOwner);
        vm.assertTrue(_subs.purchasesPaused() == paused, "purchasesPaused");
        _subs.setPurchasesPaused(!paused);
        vm.assertEq(_subs.pendingOwner(), newOwner, "pendingOwner");
    }

    // ---- subscriptions

    function test_cancelSubscription_ends() external {
        _buy(10);
        vm.warp(START + 1 days);
        vm.expectEmit(address(_subs));
        emit IBlockhostSubscriptions.SubscriptionCancelled(1, 1, _buyer);
        _cancel(1);
        (,, uint256 expiresAt, bool isActive, bool cancelled) = _subs.getSubscription(1);
        vm.assertEq(expiresAt, START + 1 days, "now");
        vm.assertFalse(isActive, "isActive");
        vm.assertTrue(cancelled, "cancelled");
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.SubscriptionAlreadyCancelled.selector, 1));
        _subs.cancelSubscription(1);
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.SubscriptionNotFound.selector, 2));
        _subs.cancelSubscription(2);
    }

    function test_fuzz_cancelSubscription(uint256 days_, uint256 wait) external {
        _buy(_bound(days_, 1, 100));
        vm.warp(START + _bound(wait, 0, 200 days));
        _cancel(1);
        _assertExpiry(1, block.timestamp, "now, expired before or not");
        vm.assertFalse(_subs.isSubscriptionActive(1), "ended");
    }

    // ---- money

    function test_setPrimaryStablecoin_sets() external {
        TestToken dai = new TestToken("Dai", "DAI", 18);
        vm.startPrank(_host);
        _subs.updatePaymentMethod(1, false);
        vm.expectEmit(address(_subs));
        emit IBlockhostSubscriptions.PrimaryStablecoinSet(address(dai), 18);
        _subs.setPrimaryStablecoin(address(dai));
        vm.assertEq(_subs.getPrimaryStablecoin(), address(dai), "stablecoin");
        bytes memory answer = _ask(abi.encodeCall(IBlockhostSubscriptions.getPaymentMethod, (1)));
        vm.assertEq(answer, abi.encode(dai, address(0), dai, 18, 18, true), "method 1, active again");
        vm.assertEq(_subs.calculatePayment(1, 30, 1), 300e18, "in its decimals");
        _subs.setPrimaryStablecoin(address(_usdc));
        vm.assertEq(_subs.getPaymentTokens().length, 2, "each token once");
        vm.assertEq(_subs.getPaymentTokens()[1], address(dai), "also one that was replaced");
        vm.assertEq(_subs.getTokenPriceUsdCents(1), 100, "a dollar");
    }

    function test_fuzz_setPrimaryStablecoin(uint8 decimals) external {
        TestToken token = new TestToken("", "", decimals);
        vm.prank(_host);
        if (decimals > 36) {
            vm.expectRevert(
                abi.encodeWithSelector(IBlockhostSubscriptions.TooManyDecimals.selector, token, decimals, 36)
            );
            _subs.setPrimaryStablecoin(address(token));
        } else {
            _subs.setPrimaryStablecoin(address(token));
            uint256 exact = 999 * 10 ** uint256(decimals);
            uint256 planId = _createPlan("", 333);
            vm.assertEq(_subs.calculatePayment(planId, 3, 1), exact / 100 + (exact % 100 == 0 ? 0 : 1), "rounded up");
        }
    }

    function test_setPrimaryStablecoin_reverts() external {
        vm.startPrank(_host);
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.InvalidAddress.selector));
        _subs.setPrimaryStablecoin(address(0));
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.InvalidAddress.selector));
        _subs.setPrimaryStablecoin(_buyer);
    }

    function test_updatePaymentMethod_switches() external {
        vm.expectEmit(address(_subs));
        emit IBlockhostSubscriptions.PaymentMethodUpdated(1, false);
        vm.startPrank(_host);
        _subs.updatePaymentMethod(1, false);
        (,,,,, bool active) = _subs.getPaymentMethod(1);
        vm.assertFalse(active, "off");
        for (uint256 id = 0; id <= 2; id += 2) {
            vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.PaymentMethodNotFound.selector, id));
            _subs.updatePaymentMethod(id, true);
            vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.PaymentMethodNotFound.selector, id));
            _subs.getPaymentMethod(id);
        }
        vm.assertEq(_subs.calculatePayment(1, 1, 1), 10_000000, "still calculated");
    }

    function test_fuzz_updatePaymentMethod(bool active) external {
        vm.prank(_host);
        _subs.updatePaymentMethod(1, active);
        vm.prank(_buyer);
        if (!active) {
            vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.PaymentMethodNotActive.selector, 1));
        }
        _subs.buySubscription(1, 1, 1, BLOB);
    }

    function test_withdrawFunds_sendsAll() external {
        _buy(30);
        vm.expectEmit(address(_subs));
        emit IBlockhostSubscriptions.FundsWithdrawn(address(_usdc), _stranger, 300_000000);
        vm.startPrank(_host);
        _subs.withdrawFunds(address(_usdc), _stranger);
        vm.assertEq(_usdc.balanceOf(_stranger), 300_000000, "arrived");
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.NoBalanceToWithdraw.selector));
        _subs.withdrawFunds(address(_usdc), _stranger);
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.InvalidAddress.selector));
        _subs.withdrawFunds(address(_usdc), address(0));
    }

    function test_withdrawFunds_leavesNothingStranded() external {
        _buy(1);
        TestToken dai = new TestToken("Dai", "DAI", 18);
        TestToken gift = new TestToken("Gift", "GFT", 0);
        gift.mint(address(_subs), 3);
        vm.deal(address(_subs), 5);
        vm.startPrank(_host);
        _subs.setPrimaryStablecoin(address(dai));
        _subs.withdrawFunds(address(_usdc), _stranger);
        vm.assertEq(_usdc.balanceOf(_stranger), 10_000000, "of a stablecoin that was replaced");
        _subs.withdrawFunds(address(gift), _stranger);
        vm.assertEq(gift.balanceOf(_stranger), 3, "of a token that never was a method's");
        vm.expectEmit(address(_subs));
        emit IBlockhostSubscriptions.FundsWithdrawn(address(0), _stranger, 5);
        _subs.withdrawFunds(address(0), _stranger);
        vm.assertEq(_stranger.balance, 5, "ether");
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.NoBalanceToWithdraw.selector));
        _subs.withdrawFunds(address(0), _stranger);
    }

    function test_fuzz_withdrawFunds(uint128 amount, uint128 wei_) external {
        _usdc.mint(address(_subs), amount);
        vm.deal(address(_subs), wei_);
        vm.startPrank(_host);
        if (amount != 0) _subs.withdrawFunds(address(_usdc), _stranger);
        if (wei_ != 0) _subs.withdrawFunds(address(0), _stranger);
        vm.assertEq(_usdc.balanceOf(_stranger), amount, "tokens");
        vm.assertEq(_stranger.balance, wei_, "ether");
    }

    function test_setSlippageBps_sets() external {
        vm.expectEmit(address(_subs));
        emit IBlockhostSubscriptions.SlippageUpdated(100, 1000);
        vm.startPrank(_host);
        _subs.setSlippageBps(1000);
        vm.assertEq(_subs.slippageBps(), 1000, "slippageBps");
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.SlippageTooHigh.selector));
        _subs.setSlippageBps(1001);
    }

    function test_fuzz_setSlippageBps(uint256 bps) external {
        vm.prank(_host);
        if (bps > 1000) vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.SlippageTooHigh.selector));
        _subs.setSlippageBps(bps);
        vm.assertEq(_subs.slippageBps(), bps > 1000 ? 100 : bps, "slippageBps");
    }

    function test_fuzz_setMinLiquidity(uint256 minimum) external {
        vm.expectEmit(address(_subs));
        emit IBlockhostSubscriptions.MinLiquidityUpdated(10_000e6, minimum);
        vm.prank(_host);
        _subs.setMinLiquidity(minimum);
        vm.assertEq(_subs.minLiquidityUsd(), minimum, "minLiquidityUsd");
    }

    function _assertPlan(uint256 planId, string memory name, uint256 price, bool active) private {
        bytes memory answer = _ask(abi.encodeCall(IBlockhostSubscriptions.getPlan, (planId)));
        vm.assertEq(answer, abi.encode(name, price, active), "plan");
    }

    function _ask(bytes memory question) private returns (bytes memory answer) {
        bool ok;
        (ok, answer) = address(_subs).call(question);
        vm.assertTrue(ok, "answers");
    }
}
