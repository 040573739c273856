// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {IBlockhostSubscriptions} from "../src/interfaces/IBlockhostSubscriptions.sol";
import {SubscriptionsFixture} from "./SubscriptionsFixture.sol";
import {TestToken} from "./Tokens.sol";
import {ITradingPair, UniswapV2} from "./UniswapV2.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @dev Payment in tokens priced by a pair, against the real Uniswap v2.
contract BlockhostSubscriptionsPriceTest is SubscriptionsFixture, UniswapV2 {
    uint256 private constant WINDOW = 30 minutes;

    TestToken private _token;
    ITradingPair private _pair;

    function setUp() public override {
        super.setUp();
        _deployUniswap();
        _token = new TestToken("Token", "TOK", 18);
        // $2,000 a token.
        _pair = _addLiquidity(_token, 50e18, _usdc, 100_000e6);
        _enrich(_token, _buyer);
    }

    // ---- addPaymentMethod

    function test_addPaymentMethod_adds() external {
        vm.expectEmit(address(_subs));
        emit IBlockhostSubscriptions.PaymentMethodAdded(2, address(_token), address(_pair), address(_usdc));
        vm.assertEq(_addMethod(), 2, "id");
        (bool ok, bytes memory answer) =
            address(_subs).call(abi.encodeCall(IBlockhostSubscriptions.getPaymentMethod, (2)));
        vm.assertTrue(ok, "answers");
        vm.assertEq(answer, abi.encode(_token, _pair, _usdc, 18, 6, true), "method");
        _assertIds(_subs.getPaymentMethodIds(), _ids(1, 2), "ids");
        vm.assertEq(_subs.getPaymentTokens().length, 2, "tokens");
        vm.assertEq(_subs.getPaymentTokens()[1], address(_token), "token");
        vm.assertEq(_subs.nextPaymentMethodId(), 3, "next");
    }

    function test_addPaymentMethod_revertsForWhatIsNoContract() external {
        for (uint256 i = 0; i < 3; i++) {
            for (uint256 k = 0; k < 2; k++) {
                address[3] memory method = [address(_token), address(_pair), address(_usdc)];
                method[i] = k == 0 ? address(0) : _buyer;
                _refusesMethod(method, abi.encodeWithSelector(IBlockhostSubscriptions.InvalidAddress.selector));
            }
        }
    }

    function test_addPaymentMethod_revertsForUnfitTokens() external {
        TestToken other = new TestToken("Other", "OTH", 37);
        _refusesMethod(
            [address(other), address(_pair), address(_usdc)],
            abi.encodeWithSelector(IBlockhostSubscriptions.TooManyDecimals.selector, other, 37, 36)
        );
        _refusesMethod(
            [address(_token), address(_pair), address(_token)],
            abi.encodeWithSelector(IBlockhostSubscriptions.TokenIsStablecoin.selector, _token)
        );
        other = new TestToken("Other", "OTH", 18);
        bytes memory notInPair = abi.encodeWithSelector(IBlockhostSubscriptions.TokenNotInPair.selector);
        _refusesMethod([address(other), address(_pair), address(_usdc)], notInPair);
        _refusesMethod([address(other), address(_pair), address(_token)], notInPair);
        _refusesMethod([address(_token), address(_pair), address(other)], notInPair);
        _refusesMethod([address(_usdc), address(_pair), address(other)], notInPair);
    }

    function test_addPaymentMethod_revertsWithPaymentMethodExists() external {
        _addMethod();
        _refusesMethod(
            [address(_token), address(_pair), address(_usdc)],
            abi.encodeWithSelector(IBlockhostSubscriptions.PaymentMethodExists.selector, 2)
        );
        TestToken dai = new TestToken("Dai", "DAI", 18);
        ITradingPair second = _addLiquidity(_token, 1e18, dai, 2e18);
        vm.prank(_host);
        vm.assertEq(_subs.addPaymentMethod(address(_token), address(second), address(dai)), 3, "through another pair");
        vm.assertEq(_subs.getPaymentTokens().length, 2, "no token twice");
    }

    function test_fuzz_addPaymentMethod(uint8 tokenDecimals, uint8 stableDecimals) external {
        tokenDecimals = uint8(_bound(tokenDecimals, 0, 36));
        stableDecimals = uint8(_bound(stableDecimals, 0, 36));
        TestToken token = new TestToken("", "", tokenDecimals);
        TestToken stable = new TestToken("", "", stableDecimals);
        ITradingPair pair = _addLiquidity(token, 1e12, stable, 1e12);
        vm.prank(_host);
        vm.assertEq(_subs.addPaymentMethod(address(token), address(pair), address(stable)), 2, "id");
        (,,, uint8 first, uint8 second,) = _subs.getPaymentMethod(2);
        vm.assertEq(first, tokenDecimals, "tokenDecimals");
        vm.assertEq(second, stableDecimals, "stablecoinDecimals");
    }

    // ---- prices

    function test_price_isThatOfTheField() external {
        _addReadyMethod();
        vm.assertEq(_subs.getTokenPriceUsdCents(2), 200_000, "cents");
        vm.assertEq(_subs.calculatePayment(1, 30, 2), 0.1515e18, "$300 at $2,000, and a hundredth");
        TestToken even = new TestToken("Even", "EVN", 18);
        ITradingPair pair = _addLiquidity(even, 100_000e18, _usdc, 100_000e6);
        vm.prank(_host);
        _subs.addPaymentMethod(address(even), address(pair), address(_usdc));
        vm.warp(block.timestamp + WINDOW);
        vm.assertEq(_subs.calculatePayment(1, 30, 3), 303e18, "$300 at $1, and a hundredth");
    }

    function test_price_paysWithTheToken() external {
        _addReadyMethod();
        vm.expectEmit(address(_subs));
        emit IBlockhostSubscriptions.SubscriptionCreated(
            1, 1, _buyer, block.timestamp + 30 days, 0.1515e18, address(_token), BLOB
        );
        vm.startPrank(_buyer);
        _subs.buySubscription(1, 30, 2, BLOB);
        _subs.extendSubscription(1, 30, 2);
        vm.assertEq(_token.balanceOf(address(_subs)), 0.303e18, "held");
    }

    function test_price_needsAWindow() external {
        _addMethod();
        vm.warp(START + WINDOW - 1);
        vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.PriceNotReady.selector, 2, START + WINDOW));
        _subs.calculatePayment(1, 1, 2);
        vm.warp(START + WINDOW);
        vm.assertEq(_subs.calculatePayment(1, 1, 2), 0.00505e18, "ready");
    }

    function test_price_needsLiquidity() external {
        _addReadyMethod();
        bytes memory insufficient = abi.encodeWithSelector(IBlockhostSubscriptions.InsufficientLiquidity.selector);
        vm.startPrank(_host);
        _subs.setMinLiquidity(100_000e6);
        _subs.calculatePayment(1, 1, 2);
        _subs.setMinLiquidity(100_000e6 + 1);
        vm.expectRevert(insufficient);
        _subs.calculatePayment(1, 1, 2);
        vm.assertEq(_subs.getTokenPriceUsdCents(2), 200_000, "the display asks for none");
        _subs.setMinLiquidity(0);
        vm.stopPrank();
        vm.prank(address(_pair));
        vm.assertTrue(_token.transfer(_stranger, 50e18), "emptied");
        _pair.sync();
        vm.expectRevert(insufficient);
        _subs.calculatePayment(1, 1, 2);
        vm.expectRevert(insufficient);
        _subs.getTokenPriceUsdCents(2);
    }

    function test_price_measuresLiquidityInDollars() external {
        uint8[3] memory decimals = [2, 6, 18];
        for (uint256 i = 0; i < 3; i++) {
            TestToken stable = new TestToken("", "", decimals[i]);
            ITradingPair pair = _addLiquidity(_token, 50e18, stable, 9_999 * 10 ** decimals[i]);
            vm.prank(_host);
            uint256 id = _subs.addPaymentMethod(address(_token), address(pair), address(stable));
            vm.warp(block.timestamp + WINDOW);
            vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.InsufficientLiquidity.selector));
            _subs.calculatePayment(1, 1, id);
            stable.mint(address(pair), 10 ** decimals[i]);
            pair.sync();
            _subs.calculatePayment(1, 1, id);
        }
    }

    function test_fuzz_price(
        uint256 reserve,
        uint256 stableReserve,
        uint256 cents,
        uint256 days_,
        uint256 bps,
        bool swap
    ) external {
        TestToken token = new TestToken("", "", 18);
        TestToken stable = new TestToken("", "", 8);
        reserve = _bound(reserve, 1e6, 1e30);
        stableReserve = _bound(stableReserve, 10_000e8, 1e18);
        cents = _bound(cents, 1, 1e12);
        days_ = _bound(days_, 1, 36_500);
        bps = _bound(bps, 0, 1000);
        ITradingPair pair = _addLiquidity(token, reserve, stable, stableReserve);
        uint256 planId = _createPlan("", cents);
        vm.startPrank(_host);
        _subs.setSlippageBps(bps);
        _subs.addPaymentMethod(address(token), address(pair), address(stable));
        // The other way round too, so that both orders of a pair are seen.
        if (swap) _subs.setMinLiquidity(0);
        if (swap) _subs.addPaymentMethod(address(stable), address(pair), address(token));
        vm.stopPrank();
        vm.warp(block.timestamp + 10 days);
        vm.assertEq(
            _subs.calculatePayment(planId, days_, 2),
            _exact(cents * days_ * 1e8, reserve, stableReserve, bps),
            "exact, rounded up"
        );
        if (swap) {
            vm.assertEq(
                _subs.calculatePayment(planId, days_, 3),
                _exact(cents * days_ * 1e18, stableReserve, reserve, bps),
                "the other way"
            );
        }
    }

    // ---- the average

    function test_hole_flashTradeBuysForDust() external {
        _addReadyMethod();
        uint256 fair = _subs.calculatePayment(1, 365, 2);
        // In one transaction: pump the token with $100 million, buy, sell it all again.
        uint256 bought = _trade(_usdc, _token, 100_000_000e6);
        (uint256 token, uint256 stable) = _reserves();
        vm.assertLe(_exact(365_000 * 1e6, token, stable, 100), fair / 100_000, "what the earlier contract asks");
        vm.assertEq(_subs.calculatePayment(1, 365, 2), fair, "what this one asks");
        vm.prank(_buyer);
        _subs.buySubscription(1, 365, 2, BLOB);
        vm.assertEq(_token.balanceOf(address(_subs)), fair, "and gets");
        _swap(_router, _token, _usdc, bought);
    }

    function test_hole_flashSwapBuysForDust() external {
        _addReadyMethod();
        uint256 fair = _subs.calculatePayment(1, 365, 2);
        bool tokenFirst = _pair.token0() == address(_token);
        _pair.swap(tokenFirst ? 49e18 : 0, tokenFirst ? 0 : 49e18, address(this), abi.encode(fair));
    }

    /// @dev Called by the pair in the middle of a flash swap.
    function uniswapV2Call(address, uint256, uint256, bytes calldata data) external {
        vm.assertEq(_subs.calculatePayment(1, 365, 2), abi.decode(data, (uint256)), "inside a flash swap");
        _token.mint(address(_pair), 50e18);
    }

    function test_average_growsOnlyAsLongAsAPriceIsHeld() external {
        _addReadyMethod();
        uint256 fair = _subs.calculatePayment(1, 365, 2);
        // Held for one slot of Ethereum, a wrong price weighs 12 of 1812 seconds.
        _trade(_usdc, _token, 100_000_000e6);
        vm.warp(block.timestamp + 12);
        uint256 held = _subs.calculatePayment(1, 365, 2);
        vm.assertLe(fair * 1800 / 1812, held, "less than a hundredth cheaper");
        vm.assertLe(held, fair, "but a little");
    }

    function test_average_neverSellsBelowThePresentPrice() external {
        _addReadyMethod();
        vm.warp(block.timestamp + 90 days);
        uint256 before = _subs.calculatePayment(1, 30, 2);
        _trade(_token, _usdc, 50e18);
        (uint256 token, uint256 stable) = _reserves();
        uint256 present = _exact(30_000 * 1e6, token, stable, 100);
        vm.assertLe(before * 39 / 10, present, "the token lost three quarters");
        vm.assertEq(_subs.calculatePayment(1, 30, 2), present, "the average of 90 days does not count");
    }

    function test_updatePrice_beginsAnotherPeriod() external {
        _addReadyMethod();
        vm.warp(START + 90 days);
        // The token doubles: buyers pay by the old average until there is a newer one.
        _trade(_usdc, _token, 41_600e6);
        vm.warp(START + 91 days);
        (uint256 token, uint256 stable) = _reserves();
        uint256 present = _exact(30_000 * 1e6, token, stable, 100);
        vm.assertLe(present * 19 / 10, _subs.calculatePayment(1, 30, 2), "the old average");
        _subs.updatePrice(2);
        _assertWindow(START, START + 91 days + WINDOW, "the average is still over the first period");
        vm.warp(START + 91 days + WINDOW);
        _assertWindow(START + 91 days, START + 91 days + WINDOW, "over the second");
        vm.assertEq(_subs.calculatePayment(1, 30, 2), present, "a price of today");
    }

    function test_updatePrice_keepsPeriodsOfAWindow() external {
        _addMethod();
        _subs.updatePrice(2);
        _assertWindow(0, START + WINDOW, "too early");
        vm.warp(START + WINDOW);
        _subs.updatePrice(2);
        _assertWindow(START, START + 2 * WINDOW, "the first period goes on");
        vm.warp(START + WINDOW + 1);
        _subs.updatePrice(2);
        _assertWindow(START, START + 2 * WINDOW, "too early again");
        vm.warp(START + 2 * WINDOW + 7);
        _assertWindow(START + WINDOW, START + 2 * WINDOW, "the second");
        vm.prank(_buyer);
        _subs.buySubscription(1, 1, 2, BLOB);
        _assertWindow(START + WINDOW, START + 3 * WINDOW + 7, "a payment updates too");
        vm.warp(START + 3 * WINDOW + 7);
        vm.prank(_buyer);
        _subs.extendSubscription(1, 1, 2);
        _assertWindow(START + 2 * WINDOW + 7, START + 4 * WINDOW + 7, "an extension as well");
    }

    function test_fuzz_updatePrice(uint256[12] memory waits) external {
        _addMethod();
        uint256 fair = 0.1515e18;
        for (uint256 i = 0; i < 12; i++) {
            vm.warp(block.timestamp + _bound(waits[i], 1, 1 hours));
            _subs.updatePrice(2);
            (uint256 since, uint256 nextUpdateAt) = _subs.getPriceWindow(2);
            vm.assertLe(block.timestamp + 1, nextUpdateAt, "updated when possible");
            if (since == 0) continue;
            vm.assertLe(since + WINDOW, block.timestamp, "a window at least");
            vm.assertLe(block.timestamp, since + 4 * WINDOW + 2 hours, "and not the whole past");
            vm.assertEq(_subs.calculatePayment(1, 30, 2), fair, "a steady price");
        }
    }

    function test_updatePrice_revertsWithoutPair() external {
        for (uint256 id = 0; id <= 2; id++) {
            vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.PaymentMethodNotFound.selector, id));
            _subs.updatePrice(id);
            vm.expectRevert(abi.encodeWithSelector(IBlockhostSubscriptions.PaymentMethodNotFound.selector, id));
            _subs.getPriceWindow(id);
        }
    }

    // ---- short forms

    function _addMethod() private returns (uint256) {
        vm.prank(_host);
        return _subs.addPaymentMethod(address(_token), address(_pair), address(_usdc));
    }

    function _addReadyMethod() private {
        _addMethod();
        vm.warp(START + WINDOW);
    }

    function _refusesMethod(address[3] memory method, bytes memory expected) private {
        vm.prank(_host);
        vm.expectRevert(expected);
        _subs.addPaymentMethod(method[0], method[1], method[2]);
    }

    function _reserves() private view returns (uint256 token, uint256 stable) {
        (uint256 first, uint256 second,) = _pair.getReserves();
        return _pair.token0() == address(_token) ? (first, second) : (second, first);
    }

    /// @dev scaledCents = cents * 10^decimals of the stablecoin.
    function _exact(uint256 scaledCents, uint256 token, uint256 stable, uint256 bps) private pure returns (uint256) {
        return Math.mulDiv(scaledCents * (10_000 + bps), token, stable * 1e6, Math.Rounding.Ceil);
    }

    function _assertWindow(uint256 since, uint256 nextUpdateAt, string memory what) private view {
        (uint256 actualSince, uint256 actualNext) = _subs.getPriceWindow(2);
        vm.assertEq(actualSince, since, what);
        vm.assertEq(actualNext, nextUpdateAt, what);
    }
}
